// Speaks to the service that this page came from, and to nobody else.

/** The address of a route, as another program would call it. */
export const address = (path) => new URL(path, document.baseURI).href;

/**
 * Call a route. Never throws but for an aborted call.
 *
 * Returns {status, body, text, retrySeconds}; status 0 means that nobody answered.
 */
export async function call(path, value, signal) {
  const options = value === undefined
    ? {signal}
    : {signal, method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(value)};
  try {
    const answer = await fetch(path, {...options, headers: {Accept: "application/json, application/problem+json", ...options.headers}, cache: "no-store"});
    const text = await answer.text();
    const retrySeconds = Number(answer.headers.get("Retry-After")) || null;
    return {status: answer.status, body: parsed(text), text, retrySeconds};
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return {status: 0, body: {}, text: "", retrySeconds: null};
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** A refusal that belongs to no field, in one sentence. */
export function sentence(answer) {
  const {status, body, retrySeconds} = answer;
  if (status === 0) return "The service does not answer. Is it running, and is the network there?";
  const again = retrySeconds ? ` Try again in ${retrySeconds} s.` : "";
  if (status === 429) return `Too many requests from here.${again}`;
  const said = body.errors?.map((error) => error.message).join("; ") || body.detail || body.title;
  if (status >= 500) {
    const id = body.request_id ? ` Request id: ${body.request_id}.` : "";
    return `${body.title ?? "The service failed"}${body.reason ? ` (${body.reason})` : ""}: ${said ?? status}.${again}${id}`;
  }
  return said ? `${said}.` : `The service answered ${status}.`;
}
