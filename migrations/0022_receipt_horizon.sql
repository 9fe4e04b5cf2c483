CREATE TABLE `receipt_horizons` (
	`id` integer PRIMARY KEY NOT NULL,
	`before_ms` integer NOT NULL
);
