import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-plugin'
import { defineConfig } from 'vitest/config'
import { ensureDashboard } from '../../infra/local/dashboard/ensure-dashboard.ts'
import { PURE_GATEWAY_TESTS } from '../support/harness/pure-gateway-tests.ts'
import { WORKERS } from '../support/harness/workers.ts'
import { bundledSources } from './support/setup/bundled-sources.ts'
import { migratedSchema } from './support/setup/migrated-schema.ts'
import { CA, pemOf } from './support/setup/certificates.ts'
import { TEST_ADMIN_KEY, TEST_KEY_PEPPER, TEST_NODE_SECRET } from './support/setup/secrets.ts'

const root = resolve(import.meta.dirname, '../..')
const { error } = ensureDashboard(root)
if (error !== undefined) process.stderr.write(`The dashboard cannot be built:\n${error}\n`)
/** The packages that the Worker imports: 360 files. */
const PACKAGES = [
  '@opentelemetry/api',
  '@opentelemetry/core',
  '@opentelemetry/resources',
  '@opentelemetry/sdk-trace-base',
  'croner',
  'drizzle-orm',
  'drizzle-orm/d1',
  'drizzle-orm/sqlite-core',
  'hono',
  'hono/cors',
  'hono/route',
  'libphonenumber-js/max',
  'zod',
  'zod/v4/core',
]

const client = pemOf('client')
const migrations = await readD1Migrations(`${root}/migrations`)
const network = (tlsOptions: object) => ({
  network: { allow: ['private'], tlsOptions: { trustedCertificates: [CA], ...tlsOptions } },
})

export default defineConfig({
  root,
  plugins: [
    ...bundledSources(root),
    cloudflareTest(({ inject }) => ({
      wrangler: { configPath: `${root}/wrangler.toml` },
      miniflare: {
        // As Cloudflare's `mtls_certificates` are: the network, with a certificate to show or without.
        serviceBindings: {
          TEST_CERTIFICATE: network({ keypair: { privateKey: client.key, certificateChain: client.cert } }),
          TEST_NO_CERTIFICATE: network({}),
        },
        bindings: {
          NODE_SECRET: TEST_NODE_SECRET,
          KEY_PEPPER: TEST_KEY_PEPPER,
          ADMIN_KEY_SHA256: createHash('sha256').update(TEST_ADMIN_KEY).digest('hex'),
          // Short, so that requests which nobody can take are refused soon.
          COPAL_NODE_WAIT_MS: '1500',
          COPAL_QUEUE_TIMEOUT_MS: '1500',
          // Tests of refusals are not slowed down.
          COPAL_REFUSALS_PER_SECOND: '0',
          // Long: a test on a busy machine takes longer between the heartbeats that it sends.
          COPAL_NODE_SILENT_MS: '20000',
          // Long: a look-up that is given up on a busy machine is no `miss`.
          COPAL_CACHE_LOOKUP_MS: '30000',
          // Without a canary: tests of canaries set the policy of their model.
          COPAL_ADAPTATION: 'local',
          TEST_MIGRATIONS: migrations,
          TEST_SCHEMA: migratedSchema(migrations),
          TEST_NODE_URL: inject('nodeUrl'),
        },
      },
    })),
  ],
  test: {
    name: 'gateway',
    include: ['test/gateway/**/*.test.ts'],
    exclude: PURE_GATEWAY_TESTS,
    globalSetup: ['./test/gateway/support/doubles/node-double.setup.ts'],
    // One module a package: each workerd process loads them by one request a module.
    deps: { optimizer: { ssr: { enabled: true, include: PACKAGES } } },
    // The files of a workerd process run one after the other, and the setup file gives each what a new process has.
    isolate: false,
    setupFiles: ['./test/gateway/support/setup/each-file.ts'],
    testTimeout: 300_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
    maxWorkers: WORKERS,
    sequence: { groupOrder: 2 },
  },
})
