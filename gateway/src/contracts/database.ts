import type { DrizzleD1Database } from 'drizzle-orm/d1'

/** What every query function takes first. */
export type Database = DrizzleD1Database
