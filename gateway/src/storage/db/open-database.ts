import { drizzle } from 'drizzle-orm/d1'
import type { Database } from '../../contracts/database.ts'

/** Opens a D1 binding with drizzle; column names are snake_case as in the migrations. */
export function openDatabase(binding: D1Database): Database {
  return drizzle(binding, { casing: 'snake_case' })
}
