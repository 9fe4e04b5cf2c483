CREATE TABLE `pending_deletions` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`domain` text NOT NULL,
	`key_id` text,
	`tenant` text,
	`request_id` text,
	`created_at` integer NOT NULL
);
