import { drizzle, type DrizzleD1Database } from 'drizzle-orm/d1'

/** What every query function takes first. */
export type Database = DrizzleD1Database

/** The drizzle view of a D1 binding; column names are snake_case as drizzle-kit writes them. */
export function openDatabase(binding: D1Database): Database {
  return drizzle(binding, { casing: 'snake_case' })
}
