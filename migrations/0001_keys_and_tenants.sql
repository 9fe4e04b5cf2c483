CREATE TABLE `tenants` (
	`name` text PRIMARY KEY NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
ALTER TABLE `api_keys` ADD `peppered` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_hash` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_until` integer;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `tenant` text DEFAULT 'default' NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `scopes` text DEFAULT '["inference"]' NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `allowed_domains` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `allowed_models` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `expires_at` integer;--> statement-breakpoint
CREATE INDEX `api_keys_previous_hash` ON `api_keys` (`previous_hash`) WHERE "api_keys"."previous_hash" is not null;--> statement-breakpoint
CREATE INDEX `api_keys_tenant` ON `api_keys` (`tenant`);--> statement-breakpoint
ALTER TABLE `receipts` ADD `key_id` text;--> statement-breakpoint
CREATE INDEX `receipts_key` ON `receipts` (`key_id`,`created_at`);--> statement-breakpoint
INSERT INTO `tenants` (`name`, `created_at`) VALUES ('default', unixepoch() * 1000);
