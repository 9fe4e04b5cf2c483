CREATE INDEX `api_keys_unpeppered` ON `api_keys` (`id`) WHERE "api_keys"."peppered" = 0;--> statement-breakpoint
CREATE INDEX `api_keys_discovering` ON `api_keys` (`sampling`) WHERE "api_keys"."discover_domains" = 1 and "api_keys"."revoked_at" is null;--> statement-breakpoint
CREATE INDEX `decisions_kind` ON `decisions` (`model`,`kind`,`created_at`);--> statement-breakpoint
CREATE INDEX `updates_created` ON `updates` (`created_at`);--> statement-breakpoint
CREATE INDEX `updates_model_created` ON `updates` (`model`,`created_at`);