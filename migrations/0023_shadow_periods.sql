CREATE TABLE `shadow_periods` (
	`model` text NOT NULL,
	`shadow_version` integer NOT NULL,
	`mask_version` integer NOT NULL,
	`domain` text NOT NULL,
	`width` integer NOT NULL,
	`start` integer NOT NULL,
	`requests` integer NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`prompt_nll` real NOT NULL,
	`prompt_nll_shadow` real NOT NULL,
	`answer_tokens` integer NOT NULL,
	`answer_nll` real NOT NULL,
	`answer_nll_shadow` real NOT NULL,
	PRIMARY KEY(`model`, `shadow_version`, `mask_version`, `domain`, `width`, `start`)
);
--> statement-breakpoint
CREATE INDEX `shadow_periods_start` ON `shadow_periods` (`start`);