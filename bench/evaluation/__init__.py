"""What a trained net is worth: the paper's test protocols, batch normalization's exact statistics, ensembles."""
