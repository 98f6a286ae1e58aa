"""What changes production: the image, the project, the rollout, and what is asked of production afterwards."""
