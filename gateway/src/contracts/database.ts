import type { D1Database } from '@cloudflare/workers-types'
import type { DrizzleD1Database } from 'drizzle-orm/d1'

/** The database that every query function takes as its first argument. */
export type Database = DrizzleD1Database & { readonly $client: D1Database }
