"""MTB: matching the blanks (Baldini Soares et al., ACL 2019), as Peng et al. (EMNLP 2020) implement it."""
