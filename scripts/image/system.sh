#!/bin/sh
# Takes from the base what a service has no use for while the image is built: pip, the package manager, everything
# setuid, logs. What is left of the standard library is compiled.
set -eu
export PYTHONDONTWRITEBYTECODE=1
python -m pip freeze --all 2>/dev/null | cut -d = -f 1 | xargs python -m pip uninstall --quiet --yes --root-user-action ignore

cd /usr/local/lib/python3.*
rm -rf ensurepip idlelib lib2to3 test tkinter turtledemo venv config-* ../pkgconfig ../../include
rm -f /usr/local/bin/2to3* /usr/local/bin/idle* /usr/local/bin/pip* /usr/local/bin/pydoc* /usr/local/bin/python*-config
find . -name __pycache__ -prune -exec rm -r {} +
# each package by itself: what one process compiles together may differ from time to time
python -m compileall -f -q -l --invalidation-mode unchecked-hash .
find . -mindepth 1 -maxdepth 1 -type d -print0 | xargs -0 -n 1 -P 4 python -m compileall -f -q --invalidation-mode unchecked-hash

# through dpkg, so that its records stay true; what is not there is no error
dpkg --purge --force-all \
  adduser apt bsdutils debconf debian-archive-keyring e2fsprogs gpgv libapt-pkg6.0 libext2fs2 libfile-find-rule-perl \
  libgnutls30 libhogweed6 libidn2-0 libnettle8 libnumber-compare-perl libp11-kit0 libpam-modules libpam-modules-bin \
  libpam-runtime libperl5.36 libss2 libsystemd0 libtasn1-6 libtext-glob-perl libudev1 libunistring2 login logsave mount \
  openssl passwd perl perl-base perl-modules-5.36 sysvinit-utils tzdata usrmerge util-linux util-linux-extra >/dev/null 2>&1
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
find /usr/share/doc -type f ! -name copyright -delete
rm -rf /etc/apt /etc/machine-id /root/.cache /tmp/* /var/cache/* /var/lib/apt /var/lib/dpkg/*-old /var/log/*

echo 'rookery:x:10001:10001::/nonexistent:/usr/sbin/nologin' >> /etc/passwd
echo 'rookery:x:10001:' >> /etc/group
