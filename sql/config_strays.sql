-- -> 0 for a setting that is not one
SELECT 0 FROM {config} WHERE key IS NULL OR key NOT IN ('format', 'settings', 'queries', 'projection')
