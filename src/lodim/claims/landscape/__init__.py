"""Claims about objective landscapes: how few numbers a model's training needs."""
