import os

SECRET_KEY = "of a test"
INSTALLED_APPS = ["play"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "django", "USER": "postgres", "HOST": os.environ["PGHOST"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
