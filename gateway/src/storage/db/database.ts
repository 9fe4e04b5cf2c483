import { drizzle } from 'drizzle-orm/d1'
import type { Database } from '../../contracts/database.ts'

/** The drizzle view of a D1 binding; column names are snake_case as drizzle-kit writes them. */
export function openDatabase(binding: D1Database): Database {
  return drizzle(binding, { casing: 'snake_case' })
}
