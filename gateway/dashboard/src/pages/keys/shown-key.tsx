import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { Code } from '../../components/copy-button.tsx'
import { Dialog } from '../../components/dialog.tsx'

/** A new key, which is shown only once, with a request that tries it. */
export function ShownKey({ created, onClose }: { created: CreatedKey; onClose: () => void }) {
  return (
    <Dialog title={`The key ${created.name}`} onClose={onClose}>
      <p>Copy it now: it is not shown again, and the gateway keeps only its hash.</p>
      <Code label="Key" text={created.key} />
      {created.scopes.includes('inference') && (
        <>
          <p>Try it:</p>
          <Code label="Request" text={requestWith(created.key)} />
        </>
      )}
      <div class="dialog-actions">
        <button type="button" class="button button-plain button-filled" onClick={onClose}>
          I have it
        </button>
      </div>
    </Dialog>
  )
}

function requestWith(key: string): string {
  return `curl ${location.origin}/v1/models -H 'Authorization: Bearer ${key}'`
}
