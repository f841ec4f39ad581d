"""CLIP and SigLIP models: loading, prompt templates, text embeddings."""
