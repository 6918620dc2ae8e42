"""Knowledge bases: what entities are called and which facts hold between them; finding both in text."""
