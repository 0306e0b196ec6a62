"""How far an organization has come: checks, waivers, report, scanners."""
