CREATE TABLE `sweep_places` (
	`prefix` text PRIMARY KEY NOT NULL,
	`after` text NOT NULL
);
