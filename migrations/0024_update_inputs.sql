CREATE TABLE `update_inputs` (
	`update_id` text NOT NULL,
	`dataset_sha256` text NOT NULL,
	PRIMARY KEY(`update_id`, `dataset_sha256`)
);
--> statement-breakpoint
ALTER TABLE `pending_deletions` ADD `done_until` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `updates` ADD `served_since` integer;