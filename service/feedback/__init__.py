"""What a person sends back: a corrected segmentation or a report, compared with what the models said of the same study."""
