"""Jobs of many processes: what to run (`JobSpec`) and who runs it (a launcher)."""
