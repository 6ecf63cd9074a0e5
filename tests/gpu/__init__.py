"""What only a GPU can show: captured graphs, both runners, and the cost at real size."""
