"""RecBole property files of recbole_sce: models, data sets, hyper-parameter searches (data only)."""
