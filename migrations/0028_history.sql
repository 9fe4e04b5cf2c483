CREATE INDEX `usage_totals_mask` ON `usage_totals` (`model`,`mask_version`,`tenant`);--> statement-breakpoint
-- Written by hand. The counter of decisions goes on when old ones are deleted.
INSERT INTO `metric_counts` SELECT 'decisions', json_array(`model`, `kind`, `verdict`), count(*) FROM `decisions` GROUP BY 2;--> statement-breakpoint
CREATE TRIGGER `count_decisions` AFTER INSERT ON `decisions`
BEGIN
	INSERT INTO `metric_counts` VALUES ('decisions', json_array(NEW.`model`, NEW.`kind`, NEW.`verdict`), 1)
	ON CONFLICT DO UPDATE SET `value` = `value` + 1;
END;
