CREATE TABLE `batches` (
	`model` text NOT NULL,
	`dataset_sha256` text NOT NULL,
	`update_id` text NOT NULL,
	`domain` text NOT NULL,
	`state` text NOT NULL,
	`tokens` integer,
	`marked` integer DEFAULT true NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `dataset_sha256`, `update_id`)
);
--> statement-breakpoint
CREATE INDEX `batches_domain` ON `batches` (`domain`);--> statement-breakpoint
CREATE INDEX `batches_update` ON `batches` (`update_id`);--> statement-breakpoint
CREATE TABLE `decisions` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`model` text NOT NULL,
	`update_id` text,
	`mask_version` integer,
	`kind` text NOT NULL,
	`verdict` text NOT NULL,
	`reason` text NOT NULL,
	`figures` text DEFAULT '[]' NOT NULL,
	`actor` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `decisions_update` ON `decisions` (`update_id`);--> statement-breakpoint
CREATE INDEX `decisions_model` ON `decisions` (`model`,`created_at`);--> statement-breakpoint
CREATE TABLE `holdouts` (
	`domain` text NOT NULL,
	`version` integer NOT NULL,
	`sha256` text NOT NULL,
	`samples` integer NOT NULL,
	`characters` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`domain`, `version`)
);
--> statement-breakpoint
CREATE INDEX `holdouts_sha256` ON `holdouts` (`sha256`);--> statement-breakpoint
CREATE TABLE `policies` (
	`model` text PRIMARY KEY NOT NULL,
	`policy` text NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `statistics` (
	`model` text NOT NULL,
	`artifact` text NOT NULL,
	`domain` text NOT NULL,
	`datasets` text NOT NULL,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `artifact`)
);
--> statement-breakpoint
CREATE TABLE `tombstones` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`domain` text,
	`key_id` text,
	`tenant` text,
	`request_id` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
DROP INDEX `masks_update`;--> statement-breakpoint
ALTER TABLE `masks` ADD `candidate` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX `masks_update` ON `masks` (`update_id`,`candidate`);--> statement-breakpoint
PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_evaluations` (
	`model` text NOT NULL,
	`version` integer NOT NULL,
	`domain` text NOT NULL,
	`holdout_sha256` text NOT NULL,
	`tokens` integer NOT NULL,
	`nll_mean` real NOT NULL,
	`window_nll` text,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `version`, `domain`, `holdout_sha256`)
);
--> statement-breakpoint
INSERT INTO `__new_evaluations`("model", "version", "domain", "holdout_sha256", "tokens", "nll_mean", "window_nll", "created_at") SELECT "model", "version", "domain", "holdout_sha256", "tokens", "nll_mean", NULL, "created_at" FROM `evaluations`;--> statement-breakpoint
DROP TABLE `evaluations`;--> statement-breakpoint
ALTER TABLE `__new_evaluations` RENAME TO `evaluations`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `consent_version` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `jobs` ADD `stalls` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `jobs` ADD `best_progress` real DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `jobs` ADD `avoid_nodes` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `models` ADD `watch` text;--> statement-breakpoint
ALTER TABLE `updates` ADD `candidate` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `updates` ADD `weights` text;--> statement-breakpoint
-- Written by hand. Of each model and domain the newest dataset counts, because nearly all texts of the older ones are in it.
-- Datasets that only updates had which were rolled back do not count.
INSERT INTO `batches` (`model`, `dataset_sha256`, `update_id`, `domain`, `state`, `tokens`, `marked`, `created_at`)
SELECT `model`, `dataset_sha256`, `update_id`, `domain`,
	CASE
		WHEN `rolled_back` THEN 'quarantined'
		WHEN row_number() OVER (PARTITION BY `model`, `domain`, `rolled_back` ORDER BY `created_at` DESC, `dataset_sha256`) = 1 THEN 'counted'
		ELSE 'retired'
	END, NULL, 0, `created_at`
FROM (
	SELECT *, EXISTS (
		SELECT 1 FROM `updates` WHERE `updates`.`id` = `accumulated`.`update_id` AND `updates`.`state` = 'rolled_back'
	) AND NOT EXISTS (
		SELECT 1 FROM `updates`, json_each(`updates`.`datasets`) AS `own`
		WHERE `updates`.`model` = `accumulated`.`model` AND `updates`.`state` = 'promoted' AND `own`.`value` = `accumulated`.`dataset_sha256`
	) AS `rolled_back`
	FROM `accumulated`
);--> statement-breakpoint
-- Frozen holdouts become version 1. Their characters are estimated from the bytes, less the fields around each text.
INSERT INTO `holdouts` (`domain`, `version`, `sha256`, `samples`, `characters`, `created_at`)
SELECT `name`, 1, `holdout_sha256`, coalesce(`holdout_samples`, 0),
	max(0, coalesce(`datasets`.`bytes`, 0) - coalesce(`holdout_samples`, 0) * (60 + length(`name`))),
	coalesce(`datasets`.`created_at`, `domains`.`created_at`)
FROM `domains` LEFT JOIN `datasets` ON `datasets`.`sha256` = `holdout_sha256`
WHERE `holdout_sha256` IS NOT NULL;--> statement-breakpoint
DROP TABLE `accumulated`;--> statement-breakpoint
ALTER TABLE `domains` DROP COLUMN `holdout_sha256`;--> statement-breakpoint
ALTER TABLE `domains` DROP COLUMN `holdout_samples`;