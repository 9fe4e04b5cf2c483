CREATE TABLE `file_claims` (
	`key` text PRIMARY KEY NOT NULL,
	`claimed_at` integer NOT NULL,
	`is_deleting` integer NOT NULL
);
