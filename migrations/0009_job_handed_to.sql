ALTER TABLE `jobs` ADD `handed_to` text DEFAULT '[]' NOT NULL;
