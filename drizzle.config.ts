import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'sqlite',
  schema: './gateway/src/storage/db/schema/*.ts',
  out: './migrations',
  casing: 'snake_case',
})
