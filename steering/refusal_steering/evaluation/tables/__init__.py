"""Results as Markdown: by form, by modality, and as a paper prints them."""
