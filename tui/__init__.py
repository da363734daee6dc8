"""The admin's house: screens over the backend. Only tui.backend knows the appliance."""
