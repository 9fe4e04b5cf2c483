CREATE TABLE `metric_counts` (
	`metric` text NOT NULL,
	`labels` text NOT NULL,
	`value` integer NOT NULL,
	PRIMARY KEY(`metric`, `labels`)
);
--> statement-breakpoint
ALTER TABLE `updates` ADD `state_since` integer;