CREATE TABLE `accumulated` (
	`model` text NOT NULL,
	`dataset_sha256` text NOT NULL,
	`domain` text NOT NULL,
	`update_id` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `dataset_sha256`)
);
--> statement-breakpoint
CREATE TABLE `api_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`prefix` text NOT NULL,
	`default_domain` text NOT NULL,
	`sampling` text NOT NULL,
	`created_at` integer NOT NULL,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `api_keys_hash` ON `api_keys` (`hash`);--> statement-breakpoint
CREATE TABLE `datasets` (
	`sha256` text PRIMARY KEY NOT NULL,
	`domain` text NOT NULL,
	`samples` integer NOT NULL,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `domains` (
	`name` text PRIMARY KEY NOT NULL,
	`holdout_sha256` text,
	`holdout_samples` integer,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `evaluations` (
	`model` text NOT NULL,
	`version` integer NOT NULL,
	`domain` text NOT NULL,
	`holdout_sha256` text NOT NULL,
	`tokens` integer NOT NULL,
	`nll_mean` real NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `version`, `domain`)
);
--> statement-breakpoint
CREATE TABLE `jobs` (
	`id` text PRIMARY KEY NOT NULL,
	`update_id` text NOT NULL,
	`model` text NOT NULL,
	`kind` text NOT NULL,
	`payload` text NOT NULL,
	`state` text NOT NULL,
	`progress` real DEFAULT 0 NOT NULL,
	`message` text DEFAULT '' NOT NULL,
	`result` text,
	`error_code` text,
	`error_message` text,
	`node_id` text,
	`attempts` integer DEFAULT 0 NOT NULL,
	`created_at` integer NOT NULL,
	`handed_at` integer,
	`seen_at` integer
);
--> statement-breakpoint
CREATE INDEX `jobs_model_state` ON `jobs` (`model`,`state`);--> statement-breakpoint
CREATE INDEX `jobs_update` ON `jobs` (`update_id`);--> statement-breakpoint
CREATE TABLE `masks` (
	`model` text NOT NULL,
	`version` integer NOT NULL,
	`sha256` text NOT NULL,
	`parent_version` integer,
	`update_id` text NOT NULL,
	`method` text NOT NULL,
	`pattern` text NOT NULL,
	`scope` text NOT NULL,
	`sparsity` real NOT NULL,
	`churn` real,
	`domains` text NOT NULL,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL,
	`promoted_at` integer,
	PRIMARY KEY(`model`, `version`)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `masks_update` ON `masks` (`update_id`);--> statement-breakpoint
CREATE INDEX `masks_sha256` ON `masks` (`sha256`);--> statement-breakpoint
CREATE TABLE `models` (
	`id` text PRIMARY KEY NOT NULL,
	`base_sha256` text NOT NULL,
	`context_length` integer NOT NULL,
	`parameters` integer NOT NULL,
	`active_version` integer DEFAULT 0 NOT NULL,
	`previous_version` integer,
	`revision` integer DEFAULT 0 NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `receipts` (
	`request_id` text PRIMARY KEY NOT NULL,
	`node_id` text NOT NULL,
	`model` text NOT NULL,
	`domain` text NOT NULL,
	`mask_version` integer NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`completion_tokens` integer NOT NULL,
	`finish_reason` text NOT NULL,
	`queue_ms` real NOT NULL,
	`time_to_first_token_ms` real,
	`total_ms` real NOT NULL,
	`drift_tokens` integer,
	`nll_masked` real,
	`nll_dense` real,
	`estimated` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `receipts_drift` ON `receipts` (`model`,`domain`,`mask_version`) WHERE "receipts"."drift_tokens" is not null;--> statement-breakpoint
CREATE INDEX `receipts_created` ON `receipts` (`created_at`);--> statement-breakpoint
CREATE TABLE `updates` (
	`id` text PRIMARY KEY NOT NULL,
	`model` text NOT NULL,
	`domains` text NOT NULL,
	`method` text NOT NULL,
	`pattern` text NOT NULL,
	`scope` text NOT NULL,
	`samples` integer NOT NULL,
	`length` integer NOT NULL,
	`seed` integer NOT NULL,
	`state` text NOT NULL,
	`revision` integer DEFAULT 0 NOT NULL,
	`datasets` text,
	`parent_version` integer,
	`mask_version` integer,
	`error_code` text,
	`error_message` text,
	`created_at` integer NOT NULL,
	`finished_at` integer
);
--> statement-breakpoint
CREATE INDEX `updates_model_state` ON `updates` (`model`,`state`);--> statement-breakpoint
CREATE UNIQUE INDEX `updates_running` ON `updates` (`model`) WHERE "updates"."finished_at" is null;