/** Starts the dashboard. */
import { render } from 'preact'
import { App } from './app/app.tsx'
import { showUnseenCharacters } from './app/unseen-characters.ts'

showUnseenCharacters()
const root = document.getElementById('app')
if (root) render(<App />, root)
