ALTER TABLE `api_keys` ADD `limits` text DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE `tenants` ADD `limits` text DEFAULT '{}' NOT NULL;