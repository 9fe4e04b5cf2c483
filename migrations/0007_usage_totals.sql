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
-- What a Worker of before settles from here to the next deployment is in no total.
INSERT INTO `usage_totals` SELECT
	coalesce(`api_keys`.`tenant`, ''), `model`, `domain`, `mask_version`, `finish_reason`,
	count(*), sum(`prompt_tokens`), sum(`completion_tokens`),
	count(`drift_tokens`), coalesce(sum(`drift_tokens`), 0), coalesce(sum(`nll_masked`), 0), coalesce(sum(`nll_dense`), 0)
FROM `receipts` LEFT JOIN `api_keys` ON `api_keys`.`id` = `receipts`.`key_id`
GROUP BY 1, 2, 3, 4, 5;
