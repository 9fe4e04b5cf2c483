CREATE TABLE `cache_counts` (
	`tenant` text PRIMARY KEY NOT NULL,
	`hits` integer NOT NULL,
	`misses` integer NOT NULL,
	`answers` integer NOT NULL,
	`bytes` integer NOT NULL
);
