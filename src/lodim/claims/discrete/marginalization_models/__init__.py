"""Claims of 2310.12920: one call answers for any subset, as well as chains of many calls do."""
