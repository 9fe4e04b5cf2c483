ALTER TABLE `traffic_periods` ADD `named_requests` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_failed` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_prompt_tokens` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_completion_tokens` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_first_tokens` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_first_token_sum_ms` real DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_durations` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_duration_sum_ms` real DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_scored_tokens` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_nll_masked` real DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `traffic_periods` ADD `named_nll_dense` real DEFAULT 0 NOT NULL;--> statement-breakpoint
-- Written by hand. Canaries of all conversations have nothing that they could be compared with.
UPDATE `policies` SET `policy` = json_set(`policy`, '$.canary.share', 0.9) WHERE `policy` ->> '$.canary.share' > 0.9;--> statement-breakpoint
UPDATE `models` SET `canary` = json_set(`canary`, '$.share', 0.9), `revision` = `revision` + 1 WHERE `canary` ->> '$.share' > 0.9;
