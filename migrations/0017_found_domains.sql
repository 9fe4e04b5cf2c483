CREATE TABLE `request_domains` (
	`request_id` text PRIMARY KEY NOT NULL,
	`domain` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `request_domains_created` ON `request_domains` (`created_at`);