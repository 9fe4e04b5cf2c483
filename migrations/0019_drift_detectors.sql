CREATE TABLE `alerts` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`model` text NOT NULL,
	`subject` text NOT NULL,
	`domain` text,
	`mask_version` integer,
	`node_id` text,
	`message` text NOT NULL,
	`reference` real NOT NULL,
	`level` real NOT NULL,
	`raised_at` integer NOT NULL,
	`ended_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `alerts_holding` ON `alerts` (`model`,`kind`,`subject`) WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX `alerts_model` ON `alerts` (`model`,`raised_at`);--> statement-breakpoint
CREATE TABLE `detector_cursors` (
	`model` text PRIMARY KEY NOT NULL,
	`through_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `detector_states` (
	`model` text NOT NULL,
	`domain` text NOT NULL,
	`mask_version` integer NOT NULL,
	`signal` text NOT NULL,
	`requests` integer NOT NULL,
	`state` text NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`model`, `domain`, `mask_version`, `signal`)
);
--> statement-breakpoint
CREATE TABLE `probe_scores` (
	`model` text NOT NULL,
	`mask_version` integer NOT NULL,
	`node_id` text NOT NULL,
	`process` text NOT NULL,
	`tokens` integer NOT NULL,
	`nll` real NOT NULL,
	`first_nll` real NOT NULL,
	`measured_at` integer NOT NULL,
	`mismatches` integer NOT NULL,
	PRIMARY KEY(`model`, `mask_version`, `node_id`)
);