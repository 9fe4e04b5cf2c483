import type { D1Migration } from 'cloudflare:test'
import type { Bindings } from '../../../../gateway/src/contracts/bindings.ts'

declare global {
  /** The Durable Objects that were called since the bindings were emptied, by their ids. */
  var calledObjects: Map<string, { namespace: DurableObjectNamespace; id: DurableObjectId }> | undefined
  /** Whether a test file has run in this process. */
  var hasRunFile: boolean | undefined
  namespace Cloudflare {
    interface Env extends Bindings {
      TEST_MIGRATIONS: D1Migration[]
      /** The statements of {@link migratedSchema}. */
      TEST_SCHEMA: string[]
      /** Base URL of the HTTP node double of the global setup. */
      TEST_NODE_URL: string
      /** The network, with the client certificate of the tests and without one. */
      TEST_CERTIFICATE: Fetcher
      TEST_NO_CERTIFICATE: Fetcher
    }
    interface GlobalProps {
      mainModule: typeof import('../../../../gateway/src/index.ts')
    }
  }
}
