import { useEffect, useState } from 'preact/hooks'
import { Code } from '../../components/copy-button.tsx'
import { TextField } from '../../components/fields.tsx'
import { toApiError } from '../../data/client.ts'
import { useSessionState } from '../../session/session.tsx'

/** Takes a key, which becomes a cookie. */
export function SignInPage({ reason }: { reason?: string }) {
  const { signIn } = useSessionState()
  const [key, setKey] = useState('')
  const [problem, setProblem] = useState<string>()
  const [isBusy, setBusy] = useState(false)
  useEffect(() => {
    document.title = 'Sign in · copal'
  }, [])
  const submit = async () => {
    if (key.trim() === '') {
      setProblem('Enter a key.')
      return
    }
    setBusy(true)
    setProblem(undefined)
    try {
      await signIn(key.trim())
    } catch (cause) {
      const error = toApiError(cause)
      setProblem(error.status === 401 ? 'This key is unknown, revoked or expired.' : error.message)
      setBusy(false)
    }
  }
  return (
    <main class="page page-alone">
      <h1>Sign in to copal</h1>
      <p class="sentence" role="status">
        {reason ?? (
          <>
            Use the admin key, or an API key with the scope <code>read-admin</code>, <code>admin</code> or{' '}
            <code>read-metrics</code>.
          </>
        )}
      </p>
      <form
        class="sign-in"
        onSubmit={(event) => {
          event.preventDefault()
          void submit()
        }}
      >
        <TextField
          label="Key"
          type="password"
          autocomplete="current-password"
          value={key}
          onInput={setKey}
          problem={problem}
        />
        <button type="submit" class="button button-plain button-filled" disabled={isBusy}>
          {isBusy ? 'Signing in …' : 'Sign in'}
        </button>
      </form>
      <p class="soft">
        The key is exchanged for a cookie that no script can read, and is kept nowhere else. On the machine of
        the service, this opens the dashboard without typing a key:
      </p>
      <Code text="npx copal dashboard" label="Command that prints a link" />
    </main>
  )
}
