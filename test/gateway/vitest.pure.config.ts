import { resolve } from 'node:path'
import { cloudflareTest } from '@cloudflare/vitest-plugin'
import { defineConfig } from 'vitest/config'
import { ensureDashboard } from '../../infra/local/dashboard/ensure-dashboard.ts'
import { PURE_GATEWAY_TESTS } from '../support/harness/pure-gateway-tests.ts'
import { WORKERS } from '../support/harness/workers.ts'

const root = resolve(import.meta.dirname, '../..')
const { error } = ensureDashboard(root)
if (error !== undefined) process.stderr.write(`The dashboard cannot be built:\n${error}\n`)

/** Tests without bindings, which need none of the setup of the others. */
export default defineConfig({
  root,
  plugins: [cloudflareTest({ wrangler: { configPath: `${root}/wrangler.toml` } })],
  test: {
    name: 'gateway-pure',
    include: PURE_GATEWAY_TESTS,
    isolate: false,
    testTimeout: 300_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
    maxWorkers: WORKERS,
    sequence: { groupOrder: 2 },
  },
})
