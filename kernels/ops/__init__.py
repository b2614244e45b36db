"""The operations, one fused op a file, beside what they share: operands, their checks, tiles and the products."""
