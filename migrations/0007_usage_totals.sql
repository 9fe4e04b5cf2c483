CREATE TABLE `usage_totals` (
	`tenant` text NOT NULL,
	`model` text NOT NULL,
	`domain` text NOT NULL,
	`mask_version` integer NOT NULL,
	`finish_reason` text NOT NULL,
	`requests` integer NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`completion_tokens` integer NOT NULL,
	`drift_requests` integer NOT NULL,
	`drift_tokens` integer NOT NULL,
	`nll_masked` real NOT NULL,
	`nll_dense` real NOT NULL,
	PRIMARY KEY(`tenant`, `model`, `domain`, `mask_version`, `finish_reason`)
);
--> statement-breakpoint
DROP INDEX `receipts_drift`;--> statement-breakpoint
INSERT INTO `usage_totals` SELECT
	coalesce(`api_keys`.`tenant`, ''), `model`, `domain`, `mask_version`, `finish_reason`,
	count(*), sum(`prompt_tokens`), sum(`completion_tokens`),
	count(`drift_tokens`), coalesce(sum(`drift_tokens`), 0), coalesce(sum(`nll_masked`), 0), coalesce(sum(`nll_dense`), 0)
FROM `receipts` LEFT JOIN `api_keys` ON `api_keys`.`id` = `receipts`.`key_id`
GROUP BY 1, 2, 3, 4, 5;
--> statement-breakpoint
CREATE TRIGGER `receipts_inserted` AFTER INSERT ON `receipts` BEGIN
	INSERT INTO `usage_totals` VALUES (
		coalesce((SELECT `tenant` FROM `api_keys` WHERE `id` = new.`key_id`), ''),
		new.`model`, new.`domain`, new.`mask_version`, new.`finish_reason`,
		1, new.`prompt_tokens`, new.`completion_tokens`,
		new.`drift_tokens` IS NOT NULL, coalesce(new.`drift_tokens`, 0), coalesce(new.`nll_masked`, 0), coalesce(new.`nll_dense`, 0)
	) ON CONFLICT DO UPDATE SET
		`requests` = `requests` + 1,
		`prompt_tokens` = `prompt_tokens` + excluded.`prompt_tokens`,
		`completion_tokens` = `completion_tokens` + excluded.`completion_tokens`,
		`drift_requests` = `drift_requests` + excluded.`drift_requests`,
		`drift_tokens` = `drift_tokens` + excluded.`drift_tokens`,
		`nll_masked` = `nll_masked` + excluded.`nll_masked`,
		`nll_dense` = `nll_dense` + excluded.`nll_dense`;
END;
--> statement-breakpoint
-- A node's receipt in place of an estimate: the estimate is taken back, and what comes is counted as if it were inserted.
CREATE TRIGGER `receipts_replaced` AFTER UPDATE ON `receipts` BEGIN
	UPDATE `usage_totals` SET
		`requests` = `requests` - 1,
		`prompt_tokens` = `prompt_tokens` - old.`prompt_tokens`,
		`completion_tokens` = `completion_tokens` - old.`completion_tokens`,
		`drift_requests` = `drift_requests` - (old.`drift_tokens` IS NOT NULL),
		`drift_tokens` = `drift_tokens` - coalesce(old.`drift_tokens`, 0),
		`nll_masked` = `nll_masked` - coalesce(old.`nll_masked`, 0),
		`nll_dense` = `nll_dense` - coalesce(old.`nll_dense`, 0)
	WHERE `tenant` = coalesce((SELECT `tenant` FROM `api_keys` WHERE `id` = old.`key_id`), '')
		AND `model` = old.`model` AND `domain` = old.`domain`
		AND `mask_version` = old.`mask_version` AND `finish_reason` = old.`finish_reason`;
	INSERT INTO `usage_totals` VALUES (
		coalesce((SELECT `tenant` FROM `api_keys` WHERE `id` = new.`key_id`), ''),
		new.`model`, new.`domain`, new.`mask_version`, new.`finish_reason`,
		1, new.`prompt_tokens`, new.`completion_tokens`,
		new.`drift_tokens` IS NOT NULL, coalesce(new.`drift_tokens`, 0), coalesce(new.`nll_masked`, 0), coalesce(new.`nll_dense`, 0)
	) ON CONFLICT DO UPDATE SET
		`requests` = `requests` + 1,
		`prompt_tokens` = `prompt_tokens` + excluded.`prompt_tokens`,
		`completion_tokens` = `completion_tokens` + excluded.`completion_tokens`,
		`drift_requests` = `drift_requests` + excluded.`drift_requests`,
		`drift_tokens` = `drift_tokens` + excluded.`drift_tokens`,
		`nll_masked` = `nll_masked` + excluded.`nll_masked`,
		`nll_dense` = `nll_dense` + excluded.`nll_dense`;
END;
