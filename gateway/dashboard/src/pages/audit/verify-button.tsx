import { useState } from 'preact/hooks'
import { CopyButton } from '../../components/copy-button.tsx'
import { Status } from '../../components/status.tsx'
import { toApiError } from '../../data/client.ts'
import { useClient } from '../../data/data.tsx'
import { formatCount, plural } from '../../format/numbers.ts'
import { auditAfter } from './audit-endpoints.ts'
import { verifyChain, type ChainCheck } from './verify-chain.ts'

type State =
  | { kind: 'idle' }
  | { kind: 'busy'; rows: number }
  | { kind: 'done'; check: ChainCheck }
  | { kind: 'failed'; message: string }

/** Recomputes the hashes of the whole log in this browser, so that the gateway need not be believed. */
export function VerifyChain() {
  const client = useClient()
  const [state, setState] = useState<State>({ kind: 'idle' })
  const verify = async () => {
    if (!isSecureContext) {
      setState({
        kind: 'failed',
        message: 'this browser hashes only over https. Use npx copal audit verify.',
      })
      return
    }
    setState({ kind: 'busy', rows: 0 })
    try {
      const check = await verifyChain(
        (after) => client.get(auditAfter(after)),
        (rows) => setState({ kind: 'busy', rows }),
      )
      setState({ kind: 'done', check })
    } catch (cause) {
      setState({ kind: 'failed', message: toApiError(cause).message })
    }
  }
  return (
    <div class="verify" role="status">
      <button type="button" class="button" disabled={state.kind === 'busy'} onClick={() => void verify()}>
        Verify the chain
      </button>
      <Result state={state} />
    </div>
  )
}

function Result({ state }: { state: State }) {
  switch (state.kind) {
    case 'idle':
      return <span class="soft">This browser recomputes every hash; it takes a few seconds.</span>
    case 'busy':
      return <Status tone="busy">{plural(state.rows, 'entry', 'entries')} checked</Status>
    case 'failed':
      return <Status tone="harm">{`Not verified: ${state.message}`}</Status>
    case 'done':
      if (!state.check.sound)
        return (
          <Status tone="harm">
            {`Broken at entry ${state.check.brokenAt}: ${state.check.what}. The ${formatCount(state.check.rows)} before are as they were written.`}
          </Status>
        )
      return (
        <>
          <Status tone="good">{`${plural(state.check.rows, 'entry is', 'entries are')} as they were written.`}</Status>
          {state.check.last !== null && <CopyButton text={state.check.last} label="Copy the last hash" />}
        </>
      )
  }
}
