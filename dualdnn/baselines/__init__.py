"""What models of others need that teacher and students do not: gradient-boosted trees."""
