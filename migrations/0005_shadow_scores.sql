CREATE TABLE `shadow_scores` (
	`request_id` text NOT NULL,
	`shadow_version` integer NOT NULL,
	`model` text NOT NULL,
	`domain` text NOT NULL,
	`mask_version` integer NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`prompt_nll` real NOT NULL,
	`prompt_nll_shadow` real NOT NULL,
	`answer_tokens` integer NOT NULL,
	`answer_nll` real NOT NULL,
	`answer_nll_shadow` real NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`request_id`, `shadow_version`)
);
--> statement-breakpoint
CREATE INDEX `shadow_scores_versions` ON `shadow_scores` (`model`,`shadow_version`,`mask_version`,`created_at`);--> statement-breakpoint
CREATE INDEX `shadow_scores_created` ON `shadow_scores` (`created_at`);