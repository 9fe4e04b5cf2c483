CREATE TABLE `audit` (
	`id` integer PRIMARY KEY NOT NULL,
	`actor` text NOT NULL,
	`action` text NOT NULL,
	`target` text NOT NULL,
	`before` text,
	`after` text,
	`reason` text DEFAULT '' NOT NULL,
	`request_id` text,
	`created_at` integer NOT NULL,
	`previous_hash` text NOT NULL,
	`hash` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `audit_created` ON `audit` (`created_at`);--> statement-breakpoint
CREATE INDEX `audit_target` ON `audit` (`target`,`id`);--> statement-breakpoint
CREATE INDEX `audit_actor` ON `audit` (`actor`,`id`);--> statement-breakpoint
CREATE TABLE `classifiers` (
	`model` text NOT NULL,
	`version` integer NOT NULL,
	`sha256` text NOT NULL,
	`domains` text NOT NULL,
	`texts` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`model`, `version`)
);
--> statement-breakpoint
CREATE TABLE `domain_proposals` (
	`id` text PRIMARY KEY NOT NULL,
	`model` text NOT NULL,
	`name` text NOT NULL,
	`terms` text NOT NULL,
	`texts` integer NOT NULL,
	`characters` integer NOT NULL,
	`centroid` text NOT NULL,
	`state` text NOT NULL,
	`domain` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `domain_proposals_state` ON `domain_proposals` (`model`,`state`);--> statement-breakpoint
ALTER TABLE `api_keys` ADD `discover_domains` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `datasets` ADD `expired_at` integer;--> statement-breakpoint
ALTER TABLE `domains` ADD `owner` text;--> statement-breakpoint
ALTER TABLE `masks` ADD `pinned` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `models` ADD `domain_versions` text DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE `tenants` ADD `sampling` text DEFAULT 'always' NOT NULL;--> statement-breakpoint
ALTER TABLE `updates` ADD `trigger` text DEFAULT 'manual' NOT NULL;--> statement-breakpoint
ALTER TABLE `updates` ADD `trigger_reason` text DEFAULT '' NOT NULL;