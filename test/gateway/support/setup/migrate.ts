import { env } from 'cloudflare:workers'

await env.DB.batch(env.TEST_SCHEMA.map((statement) => env.DB.prepare(statement)))
