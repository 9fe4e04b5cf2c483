CREATE TABLE `usage_days` (
	`key_id` text NOT NULL,
	`day` integer NOT NULL,
	`tokens` integer NOT NULL,
	PRIMARY KEY(`key_id`, `day`)
);
--> statement-breakpoint
CREATE INDEX `usage_days_day` ON `usage_days` (`day`);--> statement-breakpoint
-- This month: nobody asks for more. What a Worker of before settles from here to the next deployment is in no day.
INSERT INTO `usage_days` SELECT `key_id`, `created_at` / 86400000, sum(`prompt_tokens` + `completion_tokens`)
FROM `receipts`
WHERE `key_id` IS NOT NULL AND `finish_reason` <> 'superseded'
	AND `created_at` >= strftime('%s', 'now', 'start of month') * 1000
GROUP BY 1, 2;
