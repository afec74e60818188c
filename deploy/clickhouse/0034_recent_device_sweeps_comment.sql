-- Found every ten minutes now: reading all scans of two days every minute took a twentieth of a core at 450,000 scans.
ALTER TABLE recent_device_sweeps MODIFY COMMENT 'codes that a device swept through, of the last two days, found every ten minutes; read v_device_sweeps'
